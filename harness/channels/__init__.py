"""A run told to what shows it: JUnit for CI servers, a job summary, OpenMetrics for a dashboard."""
