"""What is known of depth without training a network: recurrences, iterated maps, and the smoothness behind clipping."""
