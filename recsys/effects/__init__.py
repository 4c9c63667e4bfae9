"""What a campaign did: differences between its arms with intervals, checks of the test, plans."""
