"""What a scan is: reading, checking, standardising, storing."""
