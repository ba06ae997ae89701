"""Alerts: rules over what the guard decides, told where somebody reads them, and never lost on the way."""
