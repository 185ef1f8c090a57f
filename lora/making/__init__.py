"""MotionLoRAs that are computed, not trained: taken out of the difference of two motion models, or made of others."""
