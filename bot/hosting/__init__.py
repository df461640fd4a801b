"""Commands and services for the person who hosts the bot."""
