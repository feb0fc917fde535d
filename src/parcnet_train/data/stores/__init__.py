"""Data sets that are not folders of this machine: in an object store, or packed into shards."""
