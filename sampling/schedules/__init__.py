"""Noise schedules: tables of betas and sigmas."""
