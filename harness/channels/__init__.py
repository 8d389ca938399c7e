"""Reports for other tools: JUnit for CI servers, a job summary, OpenMetrics for a dashboard."""
