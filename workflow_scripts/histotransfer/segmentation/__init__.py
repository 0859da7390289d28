"""U-Nets on maps of slides, alone and end to end with the network behind the features."""
