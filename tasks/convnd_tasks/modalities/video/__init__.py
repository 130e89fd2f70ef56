"""Videos: frames held together by optical flow, or stylised as blocks."""
