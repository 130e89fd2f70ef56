"""Videos: frames that are stylised one by one along the optical flow, or as blocks."""
