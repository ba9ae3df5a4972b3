"""Scans and label files as they lie on disk: NIfTI, MetaImage, DICOM."""
