"""Messages, embeds and buttons that members see on Discord."""
