"""Real servers for tests: started as child processes on free loopback ports, always stopped."""
