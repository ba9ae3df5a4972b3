"""Is a healthy set healthy, and is nobody in it twice: what is known of its cases, twins under other names."""
