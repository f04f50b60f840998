"""Attribution in a transformed space."""
