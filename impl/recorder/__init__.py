"""Recording a real guest."""
