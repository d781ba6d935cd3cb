"""CapFilt over files of image-text pairs: streaming, resumption, calibration and a report."""
