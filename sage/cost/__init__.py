"""What a run will cost: its work counted from its sizes, and priced on this machine."""
