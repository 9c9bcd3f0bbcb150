"""Problems become conversations between a teacher and a student.

The student's first turn states the problem; from there they take turns until the student states the gold answer, or to
the turn limit.
"""

from socratic_rl.conversations.annotated import Annotated
from socratic_rl.conversations.auto import Auto
from socratic_rl.conversations.base import Writer
from socratic_rl.conversations.generated import RolePlay, Script

__all__ = ["Annotated", "Auto", "RolePlay", "Script", "Writer"]
