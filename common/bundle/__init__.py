"""Configs shared and packed, and bundles opened from Python."""

from ..utils import exported

__getattr__, __dir__, __all__ = exported(
    __name__,
    {
        "configs": ["OpenedBundle", "from_config", "open_bundle"],
        "errors": ["command_line"],
        "package": ["package_bundle"],
        "record": ["recall", "record_of", "settings_of", "update_record"],
    },
)
