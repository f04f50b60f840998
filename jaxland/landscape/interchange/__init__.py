"""Exchange a landscape: archives, PATHSAMPLE databases, exports."""
