"""Clips: frames held together by motion, or worked on as blocks; `convnd stylize-video`."""
