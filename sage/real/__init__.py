"""The main job on real language models: fetch them, train SAEs on their streams, score, report."""
