"""What asks the student something, with and without a question mark, and what only sounds so."""

import time

import pytest

from socratic_rl.measures.replies import asks_question, questions

ASKS = [
    "Let me know if it is a rectangle.", "So each of them must be...", "A ticket costs …", "3 times 4 is what",
    "Hi can you talk me through your answer", "Hi Sam talk me through your solution", "Explain",
    "how many wheels do the trucks have", "Explain.", "Please explain", "Describe your steps",
    "Hello, walk me through it", "Hi Sam can you explain how you got there", "Ok so can you check that",
    "Can you check your working", "Show your working", "Show me the steps", "Tell me your thinking", "Go on, explain",
    "Explain your answer", "Explain it to me please", "why do you think so", "Why", "Why?", "How so", "How",
    "what makes you say that", "what next", "and then", "Next?", "which one is larger", "is that more or less than 10",
    "is 5 more than 3", "are there any left", "does she have enough", "do the numbers add up", "did Sam pay for both",
    "has he got more", "how about the apples", "what about the apples", "How come", "what if there were 3",
    "who has more", "whose is larger", "where did the 5 come from", "Try to explain how you got 12",
    "Talk through your answer", "Talk us through it", "could Ann buy 3", "Would it be more or less",
    "I wonder how many are left", "I'd like you to tell me how many are left.", "I want you to explain your steps",
    "Let's hear how you did it", "Hi Sam, talk me through how you got that please.",
    "Hi, please can you explain your answer to me", "Good morning Sam could you show me your working",
    "Hey there talk me through this", "Thanks Sam, now tell me what you get for 3 x 4", "So what is it",
    "what's 3 x 4", "Whats 3 x 4", "whats left", "how can we find it", "Can Sam afford it", "Are you sure?",
    "Are you sure 3 x 4 is 11?", "Is that all?", "Is that right?", "Is that correct?",
    "Does your answer make sense in the problem?", "Would you like to explain how you got that?",
    "Can you try another way?", "Is there another way to solve it?", "Is there any other way to do it?",
    "Ready to try? What is 3 x 4?", "Do you agree?", "Do you agree with Sam?", "Okay?  What is 4x3?", "Elaborate",
    "Elaborate please", "Justify your answer", "Prove it", "State the formula you used", "Write out your steps",
    "List the steps you took", "Please share your solution", "Share how you got it", "Give me an example", "Name one",
    "Say more", "Say that in your own words", "Put it in your own words", "Hi Ayisha tell me about your working",
    "please could you tell me how you solved it", "and why is that", "How would you solve it",
    "Is it alright to add them?", "Is it right to add 3 here?", "Is that alright with the numbers in the problem?",
    "Hello Maria, talk me through how you did this", "Hey Tom, can you tell me what you did first",
    "ok talk me through it", "Could you tell me how you found that", "please walk me through your steps",
    "Hi Rishi please explain your answer", "Hi, I'd like to hear how you solved it", "Describe how you solved it",
    "Explain why.", "Please describe your method.", "So tell me", "Now explain", "how much is left",
    "how many apples does he buy", "what do you get", "what does the 5 stand for", "where does 12 come from",
    "why did you add", "why 12", "who ran further", "which is bigger, 1/2 or 1/3", "when does the train arrive",
    "how far does she walk each day", "how did you get 15", "what would happen if x is 0", "so what do we do next",
    "and what is 3 times 4", "ok what about the second part", "Do you think it is more",
    "Is there another way to do that", "does it fit", "did you check", "have you tried 12", "can it be negative",
    "should we add or subtract", "would 12 work", "are they equal", "was it more than 10", "So each box has how many",
    "The area of a square is what", "Hi Sam! How did you get 12?", "Right, so what is 4 x 5?",
    "Okay, ready? What is 4 x 5?", "All right, and how many are left?",
    "Is 12 all right as an answer for the number of buses?", "Would you like to tell me how you got 12?",
    "Are you ready to tell me how many there are?", "Is that the next number in the pattern?",
    "Can you think of another example?", "Can you find another number that works?", "What other way can you solve it?",
    "How else can you solve this?", "Do you see another way?", "What would another example be?",
    "Can you try a similar problem with smaller numbers?", "Let me know what you get", "let me know how you did it.",
    "Tell me more.", "Tell me more about that", "Walk me through that step.", "Show me how you added them.",
    "Share your thinking with me.", "Could you elaborate", "Can you elaborate on that.",
    "I wonder what happens when we double it.", "I'm curious how you got 12.", "In your own words, what is asked?",
    "Put the question in your own words.", "Which step comes next", "Guess how many there are.",
    "Hi there. Explain your reasoning please.", "Good morning! Talk me through your work.", "Yes and how many is that",
    "No, what is half of 12", "Why not", "What else", "Is it 12 or 15", "is this enough",
    "does John have more than Mary", "Did he pay 5 dollars or 10", "Will 30 chairs be enough", "is the total larger",
    "are there more boys than girls", "What is the rule for the next one/", "So the equation would be/",
    "was there any part that confused you/",
]  # fmt: skip


DOES_NOT_ASK = [
    "Let me know if you get stuck.", "Well...", "Hmm, not quite...", "Please let me know once you are done.",
    "All right?", "Is that alright?", "Are you ready for the next one?", "Any other way I can help?",
    "Would you like to try another problem?", "Alright?", "Is that okay?", "Is that all right with you?",
    "Is this ok?", "Are you ready?", "Are you ready to move on?", "Ready to continue?", "Shall we continue?",
    "Shall we move on?", "Shall we move on to the next problem?", "Shall we try another one?",
    "Would you like another problem?", "Do you want to try another one?", "Want to try another?",
    "Do you want to go on?", "Can we move on?", "Is there anything else I can help you with?", "Anything else?",
    "What else can I help you with?", "How can I help you today?", "How else can I help?", "How may I help you?",
    "Can I help with anything else?", "Do you need any more help?", "Do you need help with anything else?",
    "Is everything clear?", "Is that clear now?", "Clear?", "Does that help?", "Did that help?",
    "Does that answer your question?", "Do you understand now?", "Understand?", "Got it?", "Are you with me?",
    "Are you following?", "Following so far?", "So far so good?", "Good?", "Sound good?", "Sounds good?",
    "Does that sound good?", "How does that sound?", "You good?", "Are we good?", "Are you okay?", "Okay so far?",
    "Any problems?", "Any doubts?", "Do you have questions?", "Does it make sense now?", "Make sense?",
    "Would you like some help?", "Would you like to practice more?", "Would you like to try a similar problem?",
    "Shall we begin?", "Shall we start?", "Ready to start?", "Are you ready to begin?", "Can you hear me?",
    "Can you see the board?", "Are you there?", "Hello?", "Are you happy with that?", "Happy with that?",
    "Do you feel confident?", "Do you feel comfortable with this?", "Fancy another one?", "Ready for another?",
    "Want another one?", "How's that?", "Isn't that great?", "Is that better?", "Is it alright now?", "Is that good?",
    "Who's ready for the next one?", "May I continue?", "Can I go on?", "Thank you for explaining", "I will explain",
    "Let me explain.", "That explains it.", "You explained it well", "Good explanation", "What a great answer",
    "How nice", "How wonderful!", "What a clever idea!", "Whatever you do, check it.", "I explained how it works",
    "Which is right.", "When you are done, we stop.", "Who would have thought!", "He explains how it is done.",
    "That is why.", "You know how to do it.", "I see how you got that.", "That shows how many are left.",
    "Explaining helps.", "Could be right.", "Is what I said.", " Now you can see why.", "Have a great day", "Will do",
    "Do your best", "Did you know that a dozen is 12?", "Okay?", "All right then?", "Alright, ready?",
    "Is this all right?", "Are we all right?", "Is it okay?", "Is that fine?", "Is that fine with you?",
    "Is that ok for you?", "Are you all right?", "Are you alright?", "Everything okay?", "Everything clear?",
    "All clear?", "All good?", "Ready?", "Are you ready for another one?", "Are you ready for the next question?",
    "Are you ready for a harder problem?", "Are you all set?", "Ready for the next step?", "Ready for more?",
    "Any other way I can help you?", "Any other way I can be of help?", "Is there any other way I can help?",
    "Is there something else I can help with?", "Anything else you need?", "Can I help you with anything else today?",
    "Would you like to try another one?", "Would you like to try another question?", "Would you like to try one more?",
    "Would you like me to give you another problem?", "Do you want another example?",
    "Should we try the next problem?", "Shall we do another one?", "Shall we try a harder one?",
    "Shall we go on to the next question?", "Want to try one more?", "How about another problem?",
    "Fancy a harder one?", "Would you like to take a break?", "Do you need a break?", "Would you like a hint?",
    "Need a hint?", "Do you want me to explain it again?", "Would you like me to explain it again?",
    "Shall I go over it again?", "Can I give you a hint?", "May I give you a hint?", "Is that helpful?",
    "Was that helpful?", "Does this help you?", "Is it clear to you?", "Is this clear?", "Have you understood?",
    "Did you understand that?", "Do you follow?", "Do you follow me?", "You see?", "See?", "Understood?", "Get it?",
    "Deal?", "Cool?", "Nice, right?", "Isn't maths fun?", "Isn't it fun?", "Nice to meet you, how are you?",
    "How are you today, Sam?", "How's it going?", "How was your weekend?", "What's up?", "Can I move on?",
    "Are you finished?", "Done?", "Can we go on?", "Can we continue?", "Shall we get started?",
    "Let's get started, shall we?", "You got this!", "That is how many are left.", "Now I will tell you how to do it.",
    "I can show you how it works.", "Let me show you.", "Let me walk you through it.", "I'll talk you through it.",
    "I'll explain why.", "He will explain it.", "She can tell me that.", "This explains why we divide.",
    "As you explained, it is 12.", "You described it well.", "The word 'explain' means to make clear.",
    "Great explanation!", "Which means there are 5 left", "which is 12", "where x is the number of apples",
    "when we add them we get 12", "what you did is right", "How clever of you", "how nice", "What a good idea",
    "is what you get", "Are 12 apples.", "Do the multiplication first", "Do it again", "Have another look",
    "Have a think about it", "Could be 12", "Can do", "Will do.", "Should be 12", "Would be 12", "was 12", "Did well!",
    "There are 12 apples, as you can see.", "You can explain it well", "If you can tell the time, you can do this.",
    "Take it step by step, as I do.", "Not only can you add, you can subtract.", "Tell me when you are ready.",
    "Let me know if you need help.", "Let me know when you're done.", "Give me a second.", "Describing it helps.",
    "The list of steps is long.", "I know what you mean.", "I see what you did.", "Add 3 to the total/",
    "Look at https://example.org/", "Try again", "Calculate 3 + 4.",
    "Before we end, is there anything else I can help you with?",
]  # fmt: skip


@pytest.mark.parametrize("reply", ASKS)
def test_asks(reply: str) -> None:
    assert asks_question(reply)
    assert asks_question(f"That's right, well done. {reply}")


@pytest.mark.parametrize("reply", DOES_NOT_ASK)
def test_does_not_ask(reply: str) -> None:
    assert not asks_question(reply)
    assert asks_question(f"{reply}\nWhat is 3 × 4?")


def test_only_the_sentence_that_asks_is_the_question() -> None:
    reply = "Hi Sam. All right? Hi Sam, talk me through your solution. Ready for the next one?"
    assert [reply[start:end] for start, end in questions(reply)] == ["Hi Sam, talk me through your solution."]


@pytest.mark.parametrize("words", ["hi ", "so, ok, ", "do you need any more ", "would you like ", "with now ", "a, "])
def test_a_reply_that_repeats_itself_is_read_at_once(words: str) -> None:
    start = time.perf_counter()
    asks_question(f"{words * 200}x?")
    assert time.perf_counter() - start < 1
