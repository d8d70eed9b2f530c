"""Training the model on demonstrations with expert labels. The only part of `policy/` that reads
datasets.
"""
