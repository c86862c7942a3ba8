"""The device's service: guesses with the tier ladder and has the target verify."""
