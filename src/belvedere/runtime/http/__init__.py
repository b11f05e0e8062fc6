"""What every HTTP server of Belvedere's shares: bounds on time and bytes of a request, and the shape of a refusal.

Knows HTTP and ASGI; does not know what is asked or who may ask.
"""
