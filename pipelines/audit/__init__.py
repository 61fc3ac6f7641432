"""What the commands that check, remake and compare datasets have in common."""
