"""How large a step each variant bears: the cost after some updates against the rate, and the sharpness."""
