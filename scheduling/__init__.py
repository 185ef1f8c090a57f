"""The texts that users write: schedules of prompts, values and strengths."""
