"""The pass over all files of a data set: facts about each, in processes and with a cache.

Worker processes import it, so it imports no torch.
"""
