"""The report: which figures and tables it holds, and its pages."""
