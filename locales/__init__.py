"""The catalogues of the bot's languages, and the program that brings them up to date."""
