"""Lesion sets with another region of interest: how much do numbers depend on the annotated organ?"""
