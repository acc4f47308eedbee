"""What may vary in the prompts of the public data sets: the first of each list is the baseline's.

For a sentence encoder a prompt is how the text is framed (template and instruction) and how the
labels are described.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WORDINGS", "Wordings"]


@dataclass(frozen=True)
class Wordings:
    """Candidates for the templates, the instructions, and for each label its description."""

    templates: tuple[str, ...]
    instructions: tuple[str, ...]
    words: dict[str, tuple[str, ...]]


SST2 = Wordings(
    (
        "Text: {{ text }}\nSentiment: {{ label }}",
        "{{ text }} {{ label }}",
        "Review: {{ text }}\nSentiment: {{ label }}",
        "Movie review: {{ text }}\nThe reviewer found the film {{ label }}",
        '"{{ text }}"\nThis review is {{ label }}',
        "{{ text }}\nAll in all, it was {{ label }}",
        "Input: {{ text }}\nOutput: {{ label }}",
        "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}",
        "A critic wrote: {{ text }}\nVerdict: {{ label }}",
        "How does this sound? {{ text }} {{ label }}",
    ),
    (
        "Classify the sentiment of the text.",
        "",
        "Is the review positive or negative?",
        "Decide whether the critic liked the film.",
        "Read the sentence and say what the writer feels about the movie.",
        "You are an expert in sentiment analysis.",
        "Sentiment of movie reviews.",
        "How good is this film according to the critic?",
        "Label the review as positive or negative.",
        "Which emotion does the text show, joy or disappointment?",
    ),
    {
        "negative": (
            "negative",
            "a negative review",
            "a terrible movie, I hated it",
            "bad, boring, dull, stupid, disappointing",
            "criticism",
            "The critic did not like the film.",
        ),
        "positive": (
            "positive",
            "a positive review",
            "a great movie, I loved it",
            "good, wonderful, brilliant, moving, funny",
            "praise",
            "The critic liked the film.",
        ),
    },
)

AGNEWS = Wordings(
    (
        "Text: {{ text }}\nCategory: {{ label }}",
        "{{ text }} {{ label }}",
        "News: {{ text }}\nTopic: {{ label }}",
        "Article: {{ text }}\nSection: {{ label }}",
        '"{{ text }}"\nThis news is about {{ label }}',
        "{{ label }} news: {{ text }}",
        "Input: {{ text }}\nOutput: {{ label }}",
        "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}",
        "In today's paper: {{ text }}\nYou find it under {{ label }}",
        "Headline and first lines: {{ text }}\nDesk: {{ label }}",
    ),
    (
        "Classify the text.",
        "",
        "What is the news about?",
        "Which section of the newspaper does the article belong to?",
        "Choose one of world, sports, business, and science and technology.",
        "You are the editor of a news site and sort incoming articles by topic.",
        "Topic of a news article.",
        "Read the news and name its topic.",
        "Categories: World, Sports, Business, Sci/Tech.",
        "Who would want to read this article?",
    ),
    {
        "Business": (
            "Business",
            "business news",
            "companies, markets, stocks and the economy",
            "money",
            "This article is about a company, its profits or the stock market.",
        ),
        "Sci/Tech": (
            "Sci/Tech",
            "science and technology",
            "computers, software, the internet, space and research",
            "technology news",
            "This article is about a new gadget, a program or a discovery.",
        ),
        "Sports": (
            "Sports",
            "sports news",
            "games, teams, players, matches and championships",
            "athletes",
            "This article is about a game, a team or a player.",
        ),
        "World": (
            "World",
            "world news",
            "politics, governments, wars and elections abroad",
            "international",
            "This article is about a conflict, an election or a government.",
        ),
    },
)

TREC = Wordings(
    (
        "Question: {{ text }}\nType: {{ label }}",
        "{{ text }} {{ label }}",
        "{{ text }}\nAnswer type: {{ label }}",
        "Q: {{ text }}\nA: {{ label }}",
        '"{{ text }}"\nThe answer is {{ label }}',
        "{{ text }}\nThis question asks for {{ label }}",
        "Input: {{ text }}\nOutput: {{ label }}",
        "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}",
        "Somebody asks: {{ text }}\nThey want to know {{ label }}",
        "Text: {{ text }}\nCategory: {{ label }}",
    ),
    (
        "Classify the question.",
        "",
        "What kind of answer does the question want?",
        "Decide what the question asks for.",
        "Choose one of abbreviation, description, entity, human, location, number.",
        "You work on a system that answers questions and sort them by the kind of answer.",
        "Type of a question.",
        "Is the answer a person, a place, a number, a thing, a definition or an abbreviation?",
        "Read the question and name the type of its answer.",
        "Who, what, where, when, why, how many?",
    ),
    {
        "ABBR": (
            "abbreviation",
            "an abbreviation or what it stands for",
            "What does this acronym stand for?",
            "acronym, short form, initials",
        ),
        "DESC": (
            "description",
            "a definition or an explanation",
            "What does it mean? Why? How does it work?",
            "definition, reason, manner, meaning",
            "description of something and abstract concepts",
        ),
        "ENTY": (
            "entity",
            "a thing",
            "What animal, food, product, event or language is it?",
            "animal, colour, invention, book, food, sport, plant",
            "the name of an object, a work or a substance",
        ),
        "HUM": (
            "human",
            "a person",
            "Who is it?",
            "person, group, company, name, title",
            "the name of somebody or of an organization",
        ),
        "LOC": (
            "location",
            "a place",
            "Where is it?",
            "city, country, state, mountain, river",
            "the name of a place on the map",
        ),
        "NUM": (
            "number",
            "a number or a date",
            "How many? How much? When?",
            "date, count, distance, money, age, speed",
            "a numeric value",
        ),
    },
)

INTENTS = (
    "activate_my_card", "age_limit", "apple_pay_or_google_pay", "atm_support", "automatic_top_up",
    "balance_not_updated_after_bank_transfer", "balance_not_updated_after_cheque_or_cash_deposit",
    "beneficiary_not_allowed", "cancel_transfer", "card_about_to_expire", "card_acceptance", "card_arrival",
    "card_delivery_estimate", "card_linking", "card_not_working", "card_payment_fee_charged",
    "card_payment_not_recognised", "card_payment_wrong_exchange_rate", "card_swallowed", "cash_withdrawal_charge",
    "cash_withdrawal_not_recognised", "change_pin", "compromised_card", "contactless_not_working", "country_support",
    "declined_card_payment", "declined_cash_withdrawal", "declined_transfer", "direct_debit_payment_not_recognised",
    "disposable_card_limits", "edit_personal_details", "exchange_charge", "exchange_rate", "exchange_via_app",
    "extra_charge_on_statement", "failed_transfer", "fiat_currency_support", "get_disposable_virtual_card",
    "get_physical_card", "getting_spare_card", "getting_virtual_card", "lost_or_stolen_card", "lost_or_stolen_phone",
    "order_physical_card", "passcode_forgotten", "pending_card_payment", "pending_cash_withdrawal", "pending_top_up",
    "pending_transfer", "pin_blocked", "receiving_money", "Refund_not_showing_up", "request_refund",
    "reverted_card_payment?", "supported_cards_and_currencies", "terminate_account", "top_up_by_bank_transfer_charge",
    "top_up_by_card_charge", "top_up_by_cash_or_cheque", "top_up_failed", "top_up_limits", "top_up_reverted",
    "topping_up_by_card", "transaction_charged_twice", "transfer_fee_charged", "transfer_into_account",
    "transfer_not_received_by_recipient", "transfer_timing", "unable_to_verify_identity", "verify_my_identity",
    "verify_source_of_funds", "verify_top_up", "virtual_card_not_working", "visa_or_mastercard",
    "why_verify_identity", "wrong_amount_of_cash_received", "wrong_exchange_rate_for_cash_withdrawal",
)  # fmt: skip
PATTERNS = ("{}", "the customer asks about {}", "{} (bank)", "I have a question about {}")


def _described(intent: str) -> tuple[str, ...]:
    """The name as it is, and in plain words by itself and in sentences."""
    plain = intent.replace("_", " ").rstrip("?").lower()
    return (intent, *(pattern.format(plain) for pattern in PATTERNS))


BANKING77 = Wordings(
    (
        "Text: {{ text }}\nIntent: {{ label }}",
        "{{ text }} {{ label }}",
        "Customer: {{ text }}\nThis is about {{ label }}",
        "Message: {{ text }}\nCategory: {{ label }}",
        '"{{ text }}"\nThe customer wants {{ label }}',
        "Subject: {{ label }}\n{{ text }}",
        "Input: {{ text }}\nOutput: {{ label }}",
        "{{ text }}\n{{ instruction }}\nAnswer: {{ label }}",
        "A customer of a bank wrote to the help desk: {{ text }}\nTicket: {{ label }}",
        "Question: {{ text }}\nTopic: {{ label }}",
    ),
    (
        "Classify the text.",
        "",
        "What does the customer want?",
        "Find the intent of the customer's message.",
        "You work in the support of an online bank. Read the message and name what it is about.",
        "Which of the 77 banking intents fits the message best?",
        "Intent of a bank customer.",
        "Questions about cards, transfers, top-ups, cash, exchange rates and identity checks.",
        "Which page of the help centre answers this?",
        "Name the problem.",
    ),
    {intent: _described(intent) for intent in INTENTS},
)

WORDINGS = {"sst2": SST2, "agnews": AGNEWS, "trec": TREC, "banking77": BANKING77}
