"""The nodes of a fleet among themselves: beacons, neighbours, the election."""
