"""What lab/build and lab/run are made of."""
