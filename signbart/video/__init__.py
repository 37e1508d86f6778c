"""Landmarks from videos and cameras, by MediaPipe's HolisticLandmarker."""
