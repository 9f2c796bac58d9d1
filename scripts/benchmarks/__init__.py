"""Speed of artifactfs beside its peers, measured as ratios: both sides take turns in one run; medians are compared.

`scripts/bench` makes the environments and runs `python -m benchmarks`. A module measures one kind of work; `report`
makes the table.
"""
