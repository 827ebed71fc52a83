"""The trace browser of the page: which traces it shows (`trace_sample`), packed (`packed`), and the page's part."""
