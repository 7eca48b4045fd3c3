"""Tables, figures and the page, drawn from numbers. Nothing here loads weights."""
