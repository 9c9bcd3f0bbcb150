"""Whether a reply asks the student something, and where."""

import re

from socratic_rl.notation.spans import Origins, Span, pieces

# a student's label at the start of a line or sentence: "Student:", "**User**:", "### Human:", "<|user|>"
STUDENT_LABEL = re.compile(
    r"(?:^|(?<=[.!?\"”)\]])\s+)[^\w\n]{0,5}(?:student|user|human|learner|pupil)(?: ?\d)?[^\w\n:]{0,4}:"
    r"|<\|?(?:user|student|human)\|?>|\[INST\]",
    re.IGNORECASE | re.MULTILINE,
)


_VERB = r"(?:is|are|was|were|do|does|did|can|could|would|will|should)"


_PRONOUN = r"(?:i|you|he|she|it|they|we|this|that|these|those|there)\b"


_SUBJECT = rf"(?:{_PRONOUN}|(?:the|an?|your|his|her|their|our|my|each|one|both)\b)"


# "So, good, now", "Hi Sam -", "Thanks Sam,"
LEAD = (
    r"(?:(?:(?:hi|hello|hey|hiya|dear|thanks|thank you|sorry|(?:good|great|nice|well|excellent) "
    r"(?:morning|afternoon|evening|day|done|job|work|try|start|effort))"
    rf"(?: there)?(?: (?!(?:please|how|what|wh\w+|explain|describe|{_VERB}|tell|show|give|walk|talk"
    r"|take)\b)[\w\[\]'-]+)?"
    r"|so|and|now|then|ok|okay|good|great|well|but|next|please|correct|right|alright|yes|no|yeah|sure|exactly|perfect"
    r"|excellent|first|finally|also|oh|hmm+|just|kindly)(?![\w'])[,.!: –—-]*)*+"
)


# "Explain" after "I will" or "she can" is no request
_TOLD = re.compile(
    r"\b(?:(?:i|he|she|they|we|who|that|which|me|us|let's|lets)\b|(?:i|we|he|she|they)'(?:ll|m|d|re|s|ve)\b)",
    re.IGNORECASE,
)


_OBJECT = (
    r"(?:your|how|what|why|which|where|when|whether|the|it|that|this|these|those|each|all|to me"
    r"|with (?:me|us))\b"
)


_REQUEST = (
    r"(?:(?:walk|talk|take|run|lead) (?:me|us) through\b|talk through (?:your|how|what|it|that|this)\b"
    r"|(?:tell|show) (?:me|us)\b(?! (?:if you (?:need|have|want|get)|when you))"
    r"|give (?:me|us)\b(?! an? (?:moment|minute|second|sec|bit|while|chance|try)\b)"
    r"|let (?:me|us) (?:know|hear) (?:how|what|which|why|where|your|whether)\b"
    r"|let me know (?:when (?:he|she|it|they|the)|if (?:it|that|this|he|she|they|there|the|your))\b"
    r"|(?:explain|describe|elaborate|justify|clarify)\b(?! (?:that|by saying)\b(?! to| please|[ ,]*$))"
    rf"|(?:share|state|list|outline|summari[sz]e|write (?:out|down|me|us)) {_OBJECT}"
    r"|(?:show|share|prove) (?:your|how|why|it|that|the steps)\b"
    r"|(?:say|guess) (?:more|why|how|which|what)\b|name (?:one|two|three|an?|some|the|another)\b)"
)


# to say something needs no question mark: "Tell me how many.", "Hi Sam - talk me through it", "Explain"
_IS_REQUEST = re.compile(
    rf"(?:{LEAD}|(?:[^,]*, (?!share|list|state|name)|[\w\[\]']+ (?=please\b)){LEAD})(?:(?:go on|go ahead"
    rf"|try)(?:, | to | and ))?{_REQUEST}",
    re.IGNORECASE,
)


# the same later in a sentence, where it is not somebody else who explains: "Read it again and explain how you got 5."
_ALSO = re.compile(
    r"(?:[,;:–—-] ?(?!share|list|state|name)|\b(?:and|so|then|now|please|but|you to|try to|just) )"
    rf"(?:please |then |just |now )*{_REQUEST}",
    re.IGNORECASE,
)


_IN_OWN_WORDS = re.compile(r"\bin your own words\b", re.IGNORECASE)


_WONDERS = re.compile(
    rf"{LEAD}(?:i wonder|i am wondering|i'm (?:wondering|curious)|i(?: would|'d)? (?:like|love|want"
    r"|need) (?:to (?:know|hear|see|understand)"
    r"|you to (?:tell|explain|show|describe|talk|walk|say)))\b.*\b(?:how|what|why|which|where|whether|if|your"
    r"|me|about)\b"
    rf"|{LEAD}let's hear\b",
    re.IGNORECASE,
)


_QUESTION = (
    rf"(?:how (?:many|much|long|far|old|often|tall|big|wide|deep|heavy|fast|come|about|so|else|{_VERB})\b"
    rf"|(?:what|where|when|why|who|how)(?:'?s| {_VERB})\b|(?:what|who|how) (?!{_SUBJECT})\w+ {_VERB}\b"
    r"|which (?!means|gives|makes|leaves|equals|leads|shows|is|are)\w+ (?:comes|goes|has|had|gives|makes|costs"
    r"|got|tells)"
    rf"|what(?: (?!{_SUBJECT}|next step)\w+|$)|why(?! {_SUBJECT})|who(?:se)? (?!would have)\w+"
    rf"|which (?:\w+ {_VERB}|of|one|half|part|way|(?:is|are) (?:it\b|\w+er\b|more|less|right|correct|wrong|true"
    r"|(?:the )?\w+est\b))\b"
    r"|(?:is|are|was|were|does|did|can|could|would|will|should|has|have) (?:you|he|she|it|they|we|this|that"
    r"|these|those|there|the|any)\b"
    r"|do (?:you|they|we|these|those|the \w+s (?!again|first|next|now)\w+)\b"
    r"|(?:does|did|can|could|would|will|should|has) (?!be\b|do\b|not\b|also\b|then\b|only\b)\w+ \w+"
    r"|(?:is|are|was|were) [\d$][^ ]* (?:more|less|the same|equal|enough|right|correct|bigger|larger|smaller"
    r"|greater)\b)"
)


# without a mark at the end: "how many wheels do the trucks have"
_IS_QUESTION = re.compile(LEAD + _QUESTION, re.IGNORECASE)


_ASKS_ALONE = re.compile(rf"{LEAD}(?:why|how|how so|what next|what else|why not|how come)|and then", re.IGNORECASE)


# the word order of a question, wherever it stands: "She gave 3 away, so how many did she have", "…, what is the sum"
_IS_INVERTED = re.compile(
    rf"\b(?:how|what|which|where|when|why)\b(?: (?!{_SUBJECT}|to\b)\w+){{0,3}}? "
    rf"(?:do|does|did|can|could|should|must|would|will) {_SUBJECT}"
    r"|(?:^|[,;:–—-] ?|\b(?:so|and|but|then|now) )"
    rf"(?:(?:what|where|how|why)(?:'s| is| are| was| were) {_SUBJECT}|(?:do|did|have) you\b)"
    r"|(?<!only )(?<!neither )(?<!nor )\b(?:can|could|would|will) you (?!have\b)\w+",
    re.IGNORECASE,
)


_IS_BLANK = re.compile(
    r".*(?:[\d)%]\s*=\s*|_{2,}|\bhow (?:many|much)|\b(?:is|are|was|be|equals|makes|gives|times|plus"
    r"|by) what|\b(?:is|are|was|be|equals|costs?|makes|gives|get|gets|for|at)\s?(?=\.{3}|…))[.…?]*\s*",
    re.DOTALL | re.IGNORECASE,
)


_FINE = (
    r"(?:ok|okay|all right|alright|fine|good|great|cool|clear(?:er)?|better|helpful|useful|understood|done"
    r"|finished|set|nice"
    r"|fun|interesting|amazing|awesome|wonderful|neat)"
)


_THIS = (
    r"(?:this|that|it|everything|all|these|any of (?:this|that|it)|(?:the|my|this|that) (?:\w+ )?(?:step|part"
    r"|explanation|idea|hint|answer|question|problem|method|example))"
)


_MORE = r"(?:another|next|similar|new|more|harder|easier|different|one more|extra|further)"


_TASK = (
    r"(?:ones?|problems?|questions?|exercises?|examples?|challenges?|practi[cs]e|puzzles?|topics?|tasks?|sums?"
    r"|rounds?)"
)


_TIME = r"(?: (?:now|so far|yet|today|here|then|already|for now|up to (?:here|now)))*"


_COURTESIES = (
    # Does that make sense?
    rf"(?:(?:do|does|did|is) )?(?:{_THIS}|any)\b.{{0,20}}\bmake (?:\w+ )?(?:more )?sense.{{0,20}}"
    r"|makes? sense.{0,12}",
    # Is that alright with you?
    rf"(?:(?:is|was|are|isn't|were) )?(?:{_THIS}|you|we)?(?: (?:all|still|now|more|a bit|much|so|feeling|too"
    r"|with|pretty))* ?"
    rf"{_FINE}(?: (?:with|to|for|by) (?:you|me|us|that|this|it|everyone|so far))?{_TIME}",
    # Do you understand?
    r"(?:(?:do|did|have) )?(?:you )?(?:get|got|understand|understood|see|follow|catch)(?: (?:it|that|this|me|now"
    r"|what i mean|my point"
    rf"|the idea|everything|(?:this|that|the) (?:\w+ )?(?:step|part|explanation|hint|question|problem)))*{_TIME}",
    # Right?
    r"right|yes|correct|hello|hi|hey|so far so good|agreed|deal|(?:it )?sounds? (?:good|great|fair|ok|okay).{0,15}",
    # How does that sound?
    rf"how (?:does|do|did) {_THIS} (?:sound|look|feel)(?: to you)?|how(?: is|'?s) (?:that|this|it)",
    # Does that help?
    rf"(?:does|did|do|would|will|is|has) {_THIS} (?:help(?:ed|ing)?|work for|sound|answer(?:ed)? your"
    r"|clear(?:ed)?|suit)\b(?! to\b).{0,40}",
    # Any questions?
    r"(?:(?:do|have|did) (?:you|we) |(?:are|were) there )?(?:have |got |get )?(?:any )?(?:\w+ )?"
    r"(?:questions?|doubts?|problems?|issues|concerns|confusion|trouble)(?: (?:so far|about|on|with|regarding"
    r"|for|at|before|now|yet)\b.{0,40})?",
    # Any other way I can help?
    r"(?:is there |do you (?:need|want) |would you like )?(?:any|some) ?(?:thing|one|where|way|other way"
    r"|more way)s? (?:else |more |other )?.{0,20}\bi can (?:help|do|be of).*",
    # Anything else?
    r"(?:is there |do you have |have you got )?(?:any|some)(?:thing|one|body) (?:else|more)\b.*",
    # Do you need a hint?
    r"(?:do|would|did) you (?:still )?(?:need|want|like)(?: to (?:have|get|see))?(?: \w+){0,4}"
    r" (?:help|hints?|assistance|support|clue|breaks?|time)\b.{0,40}|need (?:any |some |more |a )*(?:help"
    r"|hints?)\b.{0,40}",
    # How can I help you today?
    r"(?:how|what|where)(?: else| more)? (?:can|may|could|shall|should) i (?:help|assist|do for)\b.*",
    # Shall I explain it again?
    r"(?:can|may|could|shall|should) i (?:help|assist|explain|show|go|continue|repeat|give|move|proceed|start"
    r"|begin|offer|clarify)\b.*",
    # Shall we move on?
    r"(?:(?:shall|can|may|should|could) (?:we|i) |(?:do|would) you (?:want|like|wish) (?:to |us to )|want to |wanna )"
    r"(?:(?:move|go|carry|press|keep) (?:on|ahead|forward|going)\b.*|(?:continue|proceed|start|begin"
    r"|get started|stop|finish)"
    r"(?: (?:now|then|here|today|on|the (?:lesson|session|class)|(?:with|to) (?:the|our|this|your) (?:\w+ )?"
    rf"(?:lesson|session|class|{_TASK})))*)",
    # Would you like to try another problem?
    r"(?:(?:do|would|will|shall|should|are|may) (?:you|we|i) |(?:can|could) (?:we|i) )?(?:want|like|fancy|care|up"
    rf"|wanna|try|do|have|see|be|how about)\b.{{0,30}}\b(?:{_MORE} (?:\w+ )?{_TASK}\b.{{0,30}}|another|one more)",
    # Would you like me to explain it again?
    r"(?:do|would) you (?:want|like|need) me to (?:help|explain|show|go|repeat|give|do|clarify|say)\b.*",
    # Isn't maths fun?
    r"is(?:n't)? (?:\w+ )?(?:math\w*|algebra|geometry|counting|this|that|it) (?:\w+ )?(?:fun|easy|great|amazing)",
    # Do you want to practise more?
    r"(?:do|would) you (?:want|like) to (?:practi[sc]e|learn|do|try|see|know|work) (?:\w+ ){0,3}?(?:more"
    r"|further)\b.{0,30}",
    # Are you ready for the next one?
    r"(?:(?:are|is|who(?:'s| is)?) )?(?:you |we |everyone |everybody |all )?(?:all |now |still )?(?:ready"
    r"|prepared|excited|eager|set)\b.*",
    # Are you with me?
    r"(?:are|do) you (?:still )?(?:with me|following.{0,15}|there|here|(?:feel(?:ing)? )?(?:happy"
    r"|comfortable|confident|satisfied|okay|ok"
    rf"|good|clear|better|fine)(?: (?:with|about) .{{0,40}})?){_TIME}|(?:still )?(?:with me|following(?: me"
    rf"| along)?|happy with .{{0,20}}){_TIME}",
    # Can you hear me?
    r"can you (?:hear me|see (?:me|my screen|the (?:board|screen|whiteboard|picture|image)))\b.{0,20}",
    # How are you?
    r"(?:(?:hi|hello|hey)\b.{0,20})?(?:how are you(?: (?:doing|feeling|today|all))*|how(?:'s| is) (?:it"
    r"|everything) going.{0,15}"
    r"|how (?:was|is) your (?:day|week|weekend).{0,15}|how have you been|what's up|(?:are|did) you (?:having"
    r"|have) a (?:good|nice) .{0,20})",
    # Did you know that a dozen is 12?
    r"did you know that\b.*",
)


# checks of attention, offers and small talk, which ask nothing about the problem; what else they ask is asked
_COURTESY = re.compile(
    r"\W*(?:before (?:we|you|i) [^,?]{0,40}, |nice to (?:meet|see) you\W+)?(?:(?:so|and|now|well|oh|ok|okay"
    r"|great|good|alright|right"
    r"|perfect|yes|no|thanks|hey|hi|hello)(?: there| (?-i:[A-Z])\w+)?\W+){0,6}"
    r"(?!.*\b(?:tell me|explain how|how many|how much|what is|why|which)\b)"
    rf"(?:{'|'.join(_COURTESIES)})(?:,? (?:please|(?-i:[A-Z])\w+|\[\w+\]))?\W*",
    re.IGNORECASE,
)


_TAG = re.compile(
    r"(?:[,;.…-]\s*(?:ok|okay|right|yes|alright|all right|correct|got it|(?:does (?:this|that|it) )?make sense"
    rf"|(?:{_VERB}|shall) (?:it|that|they|he|she|you|we))|\s\w+n't (?:it|that|they|he|she|you|we))\W*$",
    re.IGNORECASE,
)


_REPORTED = re.compile(
    r"\b(?:you|he|she|they|student|friend|problem|question)(?: \w+)? "
    r"(?:said|say|says|asked|ask|asks|wrote|wondered|thought|meant|reads)\b[^\"“.?!\n]{0,30}[\"“][^\"”\n]*[\"”]",
    re.IGNORECASE,
)


SENTENCE_END = re.compile(r"(?<=[.?!])[\"”')]*\s+|\n")


def questions(reply: str) -> list[Span]:
    """The sentences in which the reply asks the student something.

    That is a question with its mark, a question typed without one, a request to say something ("Tell me how many.",
    "Explain"), or a blank to fill in ("24 / 4 ="). Not counted: courtesies and offers ("Any questions?", "Does that
    make sense?", "Ready for the next one?"), a tag on a statement ("…, okay?"), what the reply quotes from somebody,
    and a student's turn that it makes up.
    """
    teachers_part = STUDENT_LABEL.split(reply, maxsplit=1)[0].replace("’", "'")
    origins = Origins(teachers_part)
    unquoted = origins.sub(_REPORTED, "", teachers_part)
    return [
        origins.span(start + len(sentence) - len(sentence.lstrip(" \t,;*_#>-")), end)
        for start, end in pieces(SENTENCE_END, unquoted)
        if _asks(sentence := unquoted[start:end])
    ]


def asks_question(reply: str) -> bool:
    """Whether the reply asks the student something, as ``questions`` finds it."""
    return bool(questions(reply))


def _asks(sentence: str) -> bool:
    sentence = sentence.strip(" \t*_\"“”'()#>-")
    if re.search(r"[a-z] ?/$", sentence) and "://" not in sentence:  # the key beside that of the mark
        sentence = sentence[:-1].rstrip()
        return _asks_without_mark(sentence) or sentence.endswith((" is", " are", " be"))
    asked, mark, _ = sentence.rpartition("?")
    if not mark:
        return _asks_without_mark(sentence)
    if not re.search(r"\w", asked) or _COURTESY.fullmatch(asked):
        return False
    statement = _TAG.sub("", asked)
    return statement == asked or _asks_without_mark(statement)


def _asks_without_mark(sentence: str) -> bool:
    if _IS_REQUEST.match(sentence) or _IN_OWN_WORDS.search(sentence) or _WONDERS.match(sentence):
        return True
    if (also := _ALSO.search(sentence)) and not _TOLD.search(sentence, 0, also.start()):
        return True
    if _IS_INVERTED.search(sentence) or _IS_BLANK.fullmatch(sentence):
        return not _COURTESY.fullmatch(sentence)
    if sentence.endswith((".", "!", ":")):
        return False
    is_question = _IS_QUESTION.match(sentence) or _ASKS_ALONE.fullmatch(sentence)
    return bool(is_question) and not _COURTESY.fullmatch(sentence)
