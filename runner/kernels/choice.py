from .native import Geometry
def prefers_stock(geometry: Geometry, enters: bool, leaves: bool) -> bool:
    return False
