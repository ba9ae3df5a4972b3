"""From a case to what a method sees of it."""

from ..case import Case
from .slice_view import apply_slice_view
from .view import View
from .viewed import ViewedCase
from .volume_view import AnyView, apply_volume_view


def apply_view(case: Case, view: AnyView) -> ViewedCase:
    """Compute a view of a case (see :func:`.slice_view.apply_slice_view`, :func:`.volume_view.apply_volume_view`)."""
    return apply_slice_view(case, view) if isinstance(view, View) else apply_volume_view(case, view)
