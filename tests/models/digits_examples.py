"""What a machine must beat on the digits."""


def independent_units(data):
    """Log-likelihood of test examples, nats, of units with the training shares of ones, which is where training begins."""
    low, high = data.train.inputs.amin(), data.train.inputs.amax()
    train, test = (((split.inputs - low) / (high - low)).flatten(1) for split in (data.train, data.test))
    share = (train.sum(0) + 1) / (len(train) + 2)
    return float((test * share.log() + (1 - test) * (1 - share).log()).sum(1).mean())
