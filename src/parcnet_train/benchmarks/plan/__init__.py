"""Plans: how long a training will take, from its amount of work and measured times of its parts."""
