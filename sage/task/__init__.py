"""Tasks: prompts made by rule, so that every attribute of a prompt is known (method, section 1)."""
