"""What tests of this room share."""

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good")
