"""What ``export.py`` says and leaves where the check of what it wrote fails."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from socratic_rl.commands import export
from socratic_rl.core.errors import UserError
from socratic_rl.models import tutor
from socratic_rl.sharing import export_check, exports


def test_an_export_that_fails_its_check_is_set_aside_and_nothing_says_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "tutor.gguf"
    file.write_bytes(b"GGUF")
    gap = export_check.Gap(0.5, 1.0, 2.0, 100)
    monkeypatch.setattr(tutor, "Tutor", lambda *_, **__: SimpleNamespace(settings=SimpleNamespace(name="tiny")))
    for name, value in {
        "kind_of": "model",
        "refuse_merge": None,
        "base_file": None,
        "write": {"model": file},
        "not_measured": None,
        "next_command": "python chat.py",
    }.items():
        monkeypatch.setattr(exports, name, lambda *_, value=value, **__: value)
    for name, value in {
        "passages": ["one"],
        "trained_readings": {"tutor": SimpleNamespace(bfloat16=None)},
        "exported_readings": {},
        "gaps": {"tutor": gap},
        "share": None,
        "mistake": "is 0.5 nats off",
    }.items():
        monkeypatch.setattr(export_check, name, lambda *_, value=value, **__: value)
    settings = SimpleNamespace(
        adapter="adapter", output_dir=str(tmp_path), format="merged_gguf", dtype="float16", base_gguf=None, check=True,
        check_turns=1,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^check: what was exported is 0\.5 nats off; it is set aside as .*\.failed$"):
        export.run(settings, OmegaConf.create())
    assert not file.exists()
    assert file.with_name("tutor.gguf.failed").exists()
    assert "chat" not in capsys.readouterr().out
