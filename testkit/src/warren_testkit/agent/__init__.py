"""An agent under test: fakes of its ports, its bus, its process, and the contract suite of drivers."""
