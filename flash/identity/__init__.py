"""The staked identity of a validator: one holder in the whole fleet, and a hand-over that never signs twice."""
