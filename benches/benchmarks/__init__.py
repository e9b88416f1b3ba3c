"""What asv measures. The functions come from tests/catalogue.py: a new row there is a new benchmark here."""
