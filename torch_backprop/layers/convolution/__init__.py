"""Convolutions and their transposes, and the two maps between an image and its windows."""
